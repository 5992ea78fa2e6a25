"""The method: models, penalties, pruning, shrinking, training, measures, data sets, files."""
