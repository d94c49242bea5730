"""The leases that controllers have on machines of this host: until when those may run though the controller is not heard."""
