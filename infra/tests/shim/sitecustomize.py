"""Loaded by the az that the tests start: its pauses, a minute after each deployment, are not what is tested."""

import time

real_sleep = time.sleep
time.sleep = lambda seconds: real_sleep(min(seconds, 0.02))
