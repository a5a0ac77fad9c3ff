"""An item's most informative words, what a generator from scratch is first taught to write.

Enters: item texts of the training categories only. Leaves: for each the words with the highest TF-IDF, best first, as
one string. Field names stand in every text, so their weight is the lowest there is.
"""

from __future__ import annotations

import numpy as np


def informative_words(texts: list[str], num_words: int) -> list[str]:
    r"""Up to `num_words` distinct `\w+` words of each text by TF-IDF (L2 norm, natural tf); ties in alphabetical order."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(token_pattern=r"\w+")
    weights = vectorizer.fit_transform(texts).tocsr()
    words = vectorizer.get_feature_names_out()
    chosen = []
    for row in range(len(texts)):
        start, stop = weights.indptr[row], weights.indptr[row + 1]
        columns, values = weights.indices[start:stop], weights.data[start:stop]
        order = np.lexsort((columns, -values))[:num_words]
        chosen.append(" ".join(words[columns[order]]))
    return chosen
