/* controller.h - the whole program behind main() */
#ifndef CONTROLLER_CONTROLLER_H
#define CONTROLLER_CONTROLLER_H

/* Runs until a signal or a client ends it.  Returns the exit code: 0 for an
 * orderly end, 1 if it could not start, 2 for a mistake on the command line.
 */
int controller_main(int argc, char *const *argv);

#endif /* CONTROLLER_CONTROLLER_H */
