"""The benchmark: groupcomm beside its peers, on hosts of the lab, in one run. ``python -m bench --help`` says how."""
