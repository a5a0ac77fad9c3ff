"""One file per raw format behind `folder.py`: `detect`, `read_events`, `read_items`.

`amazon.py`, `yelp.py`, `recbole.py` and `plain.py` know names and columns; `lines.py`, `json_lines.py` and
`delimited.py` know how bytes become values; `events.py` holds the rules of one interaction.
"""
