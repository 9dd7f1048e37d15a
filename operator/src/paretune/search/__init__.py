"""The space, the sampler and the front: pure functions of the trial records."""
