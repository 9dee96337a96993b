//! One client's session: the transaction it is in, its settings and prepared statements.
