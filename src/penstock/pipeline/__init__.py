"""Stages that join learning, export, evaluation and registry; flows and the command line call these."""
