"""Read by the interpreter of a worker process when it starts, where `faults.run` says so."""

import faults

faults.install()
