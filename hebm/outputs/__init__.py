"""Write outputs of commands batch by batch, so that interrupted ones can be resumed."""
