"""From clips to batches: examples, sampler, loader, augmentation."""
