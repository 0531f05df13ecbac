"""Core ML: a bundle as an .mlpackage with our int8 weights, and the Swift that listens with it, never run."""
