//! Reports: the best is taken, hot ones last, each so many times, none when it is old.
