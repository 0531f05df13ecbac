"""What runs on a Linux machine beside our program: LiteRT, the microphone, and who hears of events.

It goes there with `earkit flash` and runs under Python 3.9 or later with numpy; what it imports of the kit
goes with it (kit/targets/release.py lists that).
"""
