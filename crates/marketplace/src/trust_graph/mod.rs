//! Trust between agents, computed from paid, completed requests (EigenTrust), without I/O.
