"""The search: space, sampler, gates and front, all pure functions of the study and its records."""
