"""The judge: how good are the two models on catalogues they have never seen?

Enters: task folders (items and held-out users) and recommenders that answer histories with ranked items. Leaves: one
rank per (task, recommender, protocol, user), metrics with intervals, and a report. What must hold: no recommender is
ever given a target; ours and the baselines are judged on the same users, by the same code, under the same protocol.
"""
