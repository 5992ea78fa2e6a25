"""nbval renders from records: training is forbidden here, and nothing prints a progress bar."""

import os

os.environ["COMPANION_TRAIN"] = "never"
os.environ["TQDM_DISABLE"] = "1"
os.environ["COMPANION_COMMITTED"] = "1"
os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
