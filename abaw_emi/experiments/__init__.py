"""Many runs: which there are to be, on this machine or a cluster, and the search for better options."""
