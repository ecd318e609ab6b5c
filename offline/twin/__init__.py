"""Twins: a connectome generates a person who does the task, judged beside plain baselines.

`trials` and `tasks` turn tables of trials into network inputs and targets, `behaviour` says who
is usable and how reliably each person can be told, `baselines` holds what a twin has to beat.
"""
