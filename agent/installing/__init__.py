"""Puts voxmeter on a robot out of one file, without a network: install, upgrade, uninstall, and the making of that file.

This room runs before voxmeter is installed, straight out of its wheel: all but `packing` uses nothing but Python's own library.
"""
