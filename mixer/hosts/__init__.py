"""Runs of several processes, on one or more hosts: how they start, exchange, stop and end.

`peers` tells which process this is. A process and its machine are called a host where each machine
runs one process.
"""
