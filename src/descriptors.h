/* descriptors: what a program does about them before it opens any. */
#ifndef ECHOD_DESCRIPTORS_H
#define ECHOD_DESCRIPTORS_H

/*
 * Fills 0 to 2 where closed: a socket would get the number, and lines of the log. What is written
 * there fails, as it would have.
 */
void descriptors_fill_standard(void);

/* A connection is a descriptor: lets us have as many as we may, or MOST if that is not 0. */
void descriptors_raise_limit(unsigned most);

/* How many this process may have open at a time. */
unsigned long descriptors_limit(void);

#endif
