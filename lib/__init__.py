"""The parts that the notebooks are made of: models, penalties, pruning, training, measures, records, figures."""
