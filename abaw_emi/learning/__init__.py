"""The heavy wing: batches, the model, training, runs and prediction (needs the extra `train`)."""
