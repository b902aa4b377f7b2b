"""Methods compared on stores: the plan, its execution in processes, and the statistics of what they found."""
