"""Child processes: started, fed with signals, listened to, and never left behind."""
