"""The notebooks' own room: settings, parameters, runs and their records, figures, claims. It imports lib."""
