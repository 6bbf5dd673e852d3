/* process.h - what the kernel says about another process on this host */
#ifndef BASE_PROCESS_H
#define BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PROCESS_HOST_SIZE 80

/* A name that two processes share only if they can speak of each other by
 * their process ids: this boot of this host, and the namespace.  Empty if that
 * cannot be known.
 */
void process_host(char out[PROCESS_HOST_SIZE]);

enum process_state { PROCESS_RUNS, PROCESS_STOPPED, PROCESS_ENDED };

struct process {
    pid_t pid;
    uint64_t start; // when it began, in ticks: ids are used again
    int fd;         // a pidfd, which keeps its status; -1: none
};

/* RH_ENOENT: no such process, or there is no way to know. */
int process_find(struct process *self, pid_t pid);
void process_forget(struct process *self); // as if never found

/* Is that very process still there?  ENDED also while it is on its way out:
 * none of its code will ever run.  *status is what wait() tells its parent, if
 * that can be learnt (from Linux 6.15 on always, before that until the parent
 * has asked), or -1.
 */
enum process_state process_look(const struct process *self, int *status);

/* "was killed by signal 9 (SIGKILL)", "ended with exit code 3", "ended". */
void process_epitaph(int status, char *out, size_t cap);

/* How many processes the kernel has killed for want of memory; -1: unknown. */
int64_t process_oom_kills(void);

#endif /* BASE_PROCESS_H */
