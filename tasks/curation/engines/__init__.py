"""Engines that do what a stage of curation does elsewhere than on the cores of this machine."""
