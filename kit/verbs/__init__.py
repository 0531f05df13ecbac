"""The verbs of the command line: one module each, with ABOUT, EXAMPLE, add(parser) and run(args).

Modules import what is heavy inside `run`: all of them are loaded to print the help.
"""

NAMES = (
    "models",
    "boards",
    "doctor",
    "compress",
    "compile",
    "export",
    "run",
    "flash",
    "listen",
    "phone",
    "score",
    "profile",
    "serve",
    "record",
    "reference",
    "report",
    "zoo",
    "farm",
    "edge-impulse",
    "demo",
)  # in the order of the help: what there is, the road, the rest
