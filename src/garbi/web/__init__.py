"""What both services answer with: the gate, identity, problem details, lists, preferences, the page of the contract."""
