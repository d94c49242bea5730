"""What ends the machines of a lease that has ended, beside the agent and without it: the watchdog, and `hyper fence`."""
