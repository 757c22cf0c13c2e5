"""The set-up, in rooms: machine looks, choices decides, environment installs, progress tells, checks tests.

Never imports anything outside the standard library: none of it is installed yet when this runs.
"""
