"""The demo model: how it was made, and the files themselves.

It is small enough to ship with the program, so that a new owner can see jobs run at once. Nothing in the program
imports this package; it must never be sold as more than a demonstration.
"""
