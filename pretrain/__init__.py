"""Two models, one ID book, one scheduler: recommender and ID generator trained in turn."""
