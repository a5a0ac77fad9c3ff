"""What an evaluation is asked for, and what it asks of a recommender."""
