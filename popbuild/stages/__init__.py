"""The eleven stages of a task: their order, their defaults, the context they see, their runner."""
