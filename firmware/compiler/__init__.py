"""The ahead-of-time compiler: an int8 .tflite becomes one readable C file and a firmware image."""
