/* signals.c - what the process does with signals
 *
 * Handlers may run in a forked child, which has our handlers but is no engine:
 * there they do what the default would have done.
 *
 * A signal may be delivered when the job it was meant for is over.  So an
 * interrupt of one job carries the job's number, and the handler, which runs
 * in the thread that runs the jobs, compares.
 */
#include "engine/signals.h"

#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

// clang-format off
static const struct {
    const char *name;
    int number;
} names[] = {
#define S(name) {#name, SIG##name}
    S(ABRT), S(ALRM), S(BUS),  S(CHLD),   S(CONT), S(FPE),    S(HUP),
    S(ILL),  S(INT),  S(KILL), S(PIPE),   S(PROF), S(QUIT),   S(SEGV),
    S(STOP), S(SYS),  S(TERM), S(TRAP),   S(TSTP), S(TTIN),   S(TTOU),
    S(URG),  S(USR1), S(USR2), S(VTALRM), S(XCPU), S(XFSZ),   S(IO),
    S(WINCH),
#ifdef SIGPWR
    S(PWR),
#endif
#undef S
};
// clang-format on

static struct {
    const struct interp *interp; // NULL: not installed
    pid_t pid;
    int term_fd;
    pthread_t main;
    atomic_ulong running; // number of the job; 0: none
    atomic_ulong wanted;  // the last one that was to be interrupted
    struct sigaction on_int, old_int, old_term;
} state;

static void
on_sigint(int sig, siginfo_t *info, void *context)
{
    int e = errno;
    unsigned long running = atomic_load(&state.running), meant = running;

    (void)sig;
    (void)context;
    if (!state.interp)
        return;
    if (info->si_code == SI_QUEUE)
        meant = (unsigned long)(uintptr_t)info->si_value.sival_ptr;
    if (getpid() != state.pid || (running && meant == running))
        state.interp->interrupt(state.interp->ctx);
    errno = e;
}

static void
on_sigterm(int sig)
{
    const uint64_t one = 1;
    int e = errno;

    if (getpid() != state.pid) {
        signal(sig, SIG_DFL);
        raise(sig);
    } else if (write(state.term_fd, &one, sizeof(one)) < 0) {
        e = errno == EAGAIN ? e : errno; // full means: told already
    }
    errno = e;
}

int
signals_install(const struct interp *interp, int term_fd, rh_error *err)
{
    struct sigaction on_term = {.sa_handler = on_sigterm};

    // No SA_RESTART: user code blocked in a system call has to notice.
    state.on_int = (struct sigaction){
        .sa_sigaction = on_sigint,
        .sa_flags = SA_SIGINFO,
    };
    sigemptyset(&state.on_int.sa_mask);
    sigemptyset(&on_term.sa_mask);
    state.pid = getpid();
    state.term_fd = term_fd;
    state.main = pthread_self();
    atomic_store(&state.running, 0);
    atomic_store(&state.wanted, 0);
    state.interp = interp;
    if (sigaction(SIGINT, &state.on_int, &state.old_int) < 0
        || sigaction(SIGTERM, &on_term, &state.old_term) < 0)
        return rh_fail(err, RH_EIO, "installing signal handlers");
    return 0;
}

void
signals_restore(void)
{
    if (!state.interp)
        return;
    sigaction(SIGINT, &state.old_int, NULL);
    sigaction(SIGTERM, &state.old_term, NULL);
    state.interp = NULL;
}

void
signals_running(unsigned long job)
{
    struct sigaction now;

    atomic_store(&state.running, job);
    // Code that changed the handler (asyncio.run does) is over: ours again.
    if (!job && sigaction(SIGINT, NULL, &now) == 0
        && now.sa_sigaction != on_sigint)
        sigaction(SIGINT, &state.on_int, NULL);
}

void
signals_interrupt_job(unsigned long job)
{
    const union sigval value = {.sival_ptr = (void *)(uintptr_t)job};

    atomic_store(&state.wanted, job);
    pthread_sigqueue(state.main, SIGINT, value);
}

bool
signals_wanted(void)
{
    return atomic_load(&state.wanted) == atomic_load(&state.running);
}

void
signals_interrupt_main(void)
{
    pthread_kill(state.main, SIGINT);
}

int
signals_raise(int sig)
{
    // To the thread that runs user code: the kernel could choose another.
    if (sig == SIGINT)
        return pthread_kill(state.main, sig) == 0 ? 0 : RH_EINVAL;
    return kill(getpid(), sig) == 0 ? 0 : RH_EINVAL;
}

int
signals_number(struct span name)
{
    int number = 0;

    if (name.n > 0 && name.n < 4 && isdigit(name.p[0])) {
        for (size_t i = 0; i < name.n; i++) {
            if (!isdigit(name.p[i]))
                return RH_EINVAL;
            number = 10 * number + (name.p[i] - '0');
        }
        return number <= SIGRTMAX ? number : RH_EINVAL;
    }
    if (name.n > 3 && memcmp(name.p, "SIG", 3) == 0)
        name = span_of(name.p + 3, name.n - 3);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (span_is(name, names[i].name))
            return names[i].number;
    return RH_EINVAL;
}
