"""`popbuild watch`: what waits in pending/, and the worker processes that build it."""
