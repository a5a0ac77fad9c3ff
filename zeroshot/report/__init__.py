"""The report: one self-contained page, results.json and Markdown."""
