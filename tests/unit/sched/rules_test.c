/* rules_test.c - the scheduler's rules, one play per rule */
#include "script.h"

// clang-format off

/* ---- who gets a task --------------------------------------------------- */

static const struct play placing[] = {
    { "new engines go first, then the one idle longest",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "reply B t1 ok\n" "> relay t1 B\n"
      "reply A t2 ok\n" "> relay t2 A\n"
      "submit t3\n" "> dispatch B t3\n"
      "engine C\n"
      "submit t4\n" "> dispatch C t4\n"
      "submit t5\n" "> dispatch A t5\n" },
    { "hwm 1: a task waits for an idle engine, in order of submission",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n" "submit t3\n"
      "stat n_unassigned 2\n" "stat n_waiting_room 2\n"
      "reply A t1 ok\n" "> dispatch A t2\n" "> relay t1 A\n"
      "reply A t2 error\n" "> dispatch A t3\n" "> relay t2 A\n"
      "reply A t3 ok\n" "> relay t3 A\n"
      "stat completed 2\n" "stat failed 1\n" "stat n_idle 1\n" },
    { "hwm 2: the least loaded first, never more than two",
      "config hwm=2\n"
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch B t3\n"
      "submit t4\n" "> dispatch A t4\n"
      "submit t5\n"
      "reply A t2 ok\n" "> dispatch A t5\n" "> relay t2 A\n" },
    { "hwm 0: everything goes out at once",
      "config hwm=0\n"
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch B t3\n"
      "reply B t1 ok\n" "> relay t1 B\n"
      "reply B t3 ok\n" "> relay t3 B\n"
      "submit t4\n" "> dispatch B t4\n"
      "submit t5\n" "> dispatch A t5\n" },
    { "without engines tasks wait; the first engine gets them",
      "submit t1\n" "submit t2\n"
      "engine A\n" "> dispatch A t1\n"
      "engine B\n" "> dispatch B t2\n" },
    { "lru ignores the load",
      "config scheme=lru hwm=0\n"
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1\n" "> dispatch C t1\n"
      "submit t2\n" "> dispatch B t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "reply A t3 ok\n" "> relay t3 A\n"
      "submit t4\n" "> dispatch C t4\n"
      "submit t5\n" "> dispatch B t5\n"
      "submit t6\n" "> dispatch A t6\n" },
    { "pure: in turn, and metadata is not looked at",
      "config scheme=pure\n"
      "engine A\n" "engine B\n"
      "submit t1 {'targets': ['B'], 'after': ['nope'], 'retries': 'x'}\n"
      "> dispatch B t1\n"
      "submit t2 {'targets': ['B'], 'retries': 3}\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch B t3\n"
      "reply A t2 error\n" "> relay t2 A\n"
      "reply B t1 unmet\n" "> relay t1 B\n"
      "lost B 0\n" "> answer t3 EngineError B\n" },
    { "two clients take turns, whatever each has queued",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n" "submit t3\n" "submit t4\n"
      "submit@d u1\n" "submit@d u2\n"
      "stat n_clients 2\n"
      "reply A t1 ok\n" "> dispatch A u1\n" "> relay t1 A\n"
      "reply A u1 ok\n" "> dispatch A t2\n" "> relay u1 A\n"
      "reply A t2 ok\n" "> dispatch A u2\n" "> relay t2 A\n"
      "reply A u2 ok\n" "> dispatch A t3\n" "> relay u2 A\n"
      "reply A t3 ok\n" "> dispatch A t4\n" "> relay t3 A\n"
      "reply A t4 ok\n" "> relay t4 A\n"
      "stat n_clients 0\n" },
    { "a client that comes later does not get what it has missed",
      "engine A\n"
      "submit t0\n" "> dispatch A t0\n" "reply A t0 ok\n" "> relay t0 A\n"
      "submit t1\n" "> dispatch A t1\n" "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "submit t4\n" "submit@d u1\n" "submit@d u2\n"
      "submit@d u3\n"
      "reply A t2 ok\n" "> dispatch A u1\n" "> relay t2 A\n"
      "reply A u1 ok\n" "> dispatch A t3\n" "> relay u1 A\n"
      "reply A t3 ok\n" "> dispatch A u2\n" "> relay t3 A\n"
      "reply A u2 ok\n" "> dispatch A t4\n" "> relay u2 A\n" },
    { "nor one that was away",
      "engine A\n"
      "submit@d u0\n" "> dispatch A u0\n" "reply A u0 ok\n" "> relay u0 A\n"
      "submit t0\n" "> dispatch A t0\n" "reply A t0 ok\n" "> relay t0 A\n"
      "submit t1\n" "> dispatch A t1\n" "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2\n" "> dispatch A t2\n" "reply A t2 ok\n" "> relay t2 A\n"
      "submit t3\n" "> dispatch A t3\n"
      "submit t4\n" "submit t5\n" "submit@d u1\n" "submit@d u2\n"
      "submit@d u3\n"
      "reply A t3 ok\n" "> dispatch A u1\n" "> relay t3 A\n"
      "reply A u1 ok\n" "> dispatch A t4\n" "> relay u1 A\n"
      "reply A t4 ok\n" "> dispatch A u2\n" "> relay t4 A\n" },
    { "a higher priority goes first; beyond the bounds it is the bound",
      "engine A\n"
      "submit t0\n" "> dispatch A t0\n"
      "submit t1 {'priority': -5}\n" "submit t2\n"
      "submit t3 {'priority': 7}\n" "submit t4 {'priority': 100}\n"
      "submit t5 {'priority': 5000}\n"
      "reply A t0 ok\n" "> dispatch A t4\n" "> relay t0 A\n"
      "reply A t4 ok\n" "> dispatch A t5\n" "> relay t4 A\n"
      "reply A t5 ok\n" "> dispatch A t3\n" "> relay t5 A\n"
      "reply A t3 ok\n" "> dispatch A t2\n" "> relay t3 A\n"
      "reply A t2 ok\n" "> dispatch A t1\n" "> relay t2 A\n" },
    { "targets: only these, the others do not wait for them",
      "engine A\n" "engine B\n"
      "submit t1 {'targets': ['A']}\n" "> dispatch A t1\n"
      "submit t2 {'targets': ['A', 'nobody']}\n"
      "submit t3\n" "> dispatch B t3\n"
      "submit t4 {'targets': ['B', 'A', 'B']}\n"
      "submit t5 {'targets': []}\n"
      "reply B t3 ok\n" "> dispatch B t4\n" "> relay t3 B\n"
      "reply B t4 ok\n" "> dispatch B t5\n" "> relay t4 B\n"
      "reply A t1 ok\n" "> dispatch A t2\n" "> relay t1 A\n" },
    { "targets that are all unknown are impossible at once",
      "engine A\n"
      "submit t1 {'targets': ['nobody']}\n"
      "> answer t1 ImpossibleDependency\n" "~ of its 0 known target engines\n"
      "submit t2\n" "> dispatch A t2\n" },
    { "targets that go away are impossible at once",
      "engine A\n" "engine B\n"
      "submit t1 {'targets': ['A']}\n" "> dispatch A t1\n"
      "submit t2 {'targets': ['A']}\n"
      "submit t3 {'targets': ['A', 'B']}\n" "> dispatch B t3\n"
      "submit t4 {'targets': ['A', 'B']}\n"
      "lost A 1000\n" "> answer t2 ImpossibleDependency\n"
      "reply B t3 ok\n" "> dispatch B t4\n" "> relay t3 B\n" },
};

/* ---- dependencies ------------------------------------------------------ */

static const struct play depending[] = {
    { "after: when all have succeeded",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': ['t1', 't2']}\n"
      "stat n_waiting_deps 1\n"
      "reply A t2 ok\n" "> relay t2 A\n"
      "reply B t1 ok\n" "> dispatch A t3\n" "> relay t1 B\n" },
    { "after: what has finished already counts",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2 {'after': ['t1']}\n" "> dispatch A t2\n"
      "submit t3 {'after': 't2'}\n"
      "reply A t2 ok\n" "> dispatch A t3\n" "> relay t2 A\n" },
    { "after any: the first success is enough",
      "config hwm=0\n" "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': {'dependencies': ['t1', 't2'], 'all': false}}\n"
      "reply A t1 error\n" "> relay t1 A\n"
      "reply A t2 ok\n" "> dispatch A t3\n" "> relay t2 A\n" },
    { "after any: impossible when the last one has failed",
      "config hwm=0\n" "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': {'dependencies': ['t1', 't2'], 'all': false}}\n"
      "reply A t1 error\n" "> relay t1 A\n"
      "reply A t2 error\n" "> relay t2 A\n"
      "> answer t3 ImpossibleDependency\n"
      "submit t4 {'after': {'dependencies': ['t1', 't2'], 'all': false}}\n"
      "> answer t4 ImpossibleDependency\n" },
    { "after any: one that succeeded before is enough, but all must be known",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': {'dependencies': ['t2', 't1'], 'all': false}}\n"
      "submit t4 {'after': {'dependencies': ['t1', 'x'], 'all': false}}\n"
      "> answer t4 InvalidDependency\n"
      "reply A t2 error\n" "> dispatch A t3\n" "> relay t2 A\n" },
    { "a failure makes its dependents impossible, all the way down",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'after': ['t1']}\n" "submit t3 {'after': ['t2']}\n"
      "submit t4 {'follow': ['t3']}\n"
      "submit t5 {'after': {'dependencies': ['t4'], 'success': false, "
      "'failure': true}}\n"
      "reply A t1 error\n" "> dispatch A t5\n" "> relay t1 A\n"
      "> answer t2 ImpossibleDependency\n"
      "> answer t3 ImpossibleDependency\n"
      "> answer t4 ImpossibleDependency\n"
      "~ needs t3 to succeed, and that failed\n"
      "stat impossible 3\n" },
    { "failure only: a success is in the way",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'after': {'dependencies': ['t1'], 'success': false, "
      "'failure': true}}\n"
      "reply A t1 ok\n" "> relay t1 A\n" "> answer t2 ImpossibleDependency\n"
      "~ needs t1 to fail, and that succeeded\n"
      "submit t3 {'after': {'dependencies': ['t1'], 'success': false, "
      "'failure': true}}\n" "> answer t3 ImpossibleDependency\n" },
    { "success and failure: any end will do",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'after': {'dependencies': ['t1'], 'failure': true}}\n"
      "reply A t1 error\n" "> dispatch A t2\n" "> relay t1 A\n" },
    { "unknown ids, oneself, and malformed ones",
      "engine A\n"
      "submit t1 {'after': ['zz']}\n" "> answer t1 InvalidDependency\n"
      "~ dependency zz is unknown\n"
      "submit t2 {'follow': ['t2']}\n" "> answer t2 InvalidDependency\n"
      "~ task t2 depends on itself\n"
      "submit t3 {'after': [3]}\n" "> answer t3 TypeError\n"
      "submit t4 {'after': 3}\n" "> answer t4 TypeError\n"
      "submit t5 {'after': {'dependencies': ['t1'], 'success': false}}\n"
      "> answer t5 ValueError\n" "~ both false\n"
      "submit t6 {'after': {'dependencies': [], 'all': 'no'}}\n"
      "> answer t6 TypeError\n"
      "submit t7 {'after': ['t1']}\n" "> answer t7 ImpossibleDependency\n"
      "submit t8 {'after': null, 'follow': [], 'targets': null}\n"
      "> dispatch A t8\n"
      "stat invalid 7\n" },
    { "ids that have left the window are unknown",
      "config window=2 hwm=0\n" "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "reply A t1 ok\n" "> relay t1 A\n"
      "submit t2\n" "> dispatch A t2\n" "reply A t2 ok\n" "> relay t2 A\n"
      "submit t3\n" "> dispatch A t3\n" "reply A t3 ok\n" "> relay t3 A\n"
      "stat n_remembered 2\n"
      "submit t4 {'after': ['t2']}\n" "> dispatch A t4\n"
      "submit t5 {'after': ['t1']}\n" "> answer t5 InvalidDependency\n"
      "~ more than 2 tasks have finished since\n" },
    { "follow: where the others ran, and it waits for that engine",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2 {'follow': ['t1']}\n"
      "reply B t1 ok\n" "> dispatch B t2\n" "> relay t1 B\n"
      "submit t3 {'follow': ['t1']}\n"
      "submit t4\n" "> dispatch A t4\n"
      "reply B t2 ok\n" "> dispatch B t3\n" "> relay t2 B\n" },
    { "follow all: more than one engine is impossible, before the rest ends",
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1\n" "> dispatch C t1\n" "submit t2\n" "> dispatch B t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "submit t4 {'follow': ['t1', 't2', 't3']}\n"
      "reply C t1 ok\n" "> relay t1 C\n"
      "reply B t2 ok\n" "> relay t2 B\n" "> answer t4 ImpossibleDependency\n"
      "~ more than one engine\n"
      "submit t5 {'follow': ['t1', 't2']}\n"
      "> answer t5 ImpossibleDependency\n" },
    { "follow any: any of their engines, as they end",
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1\n" "> dispatch C t1\n" "submit t2\n" "> dispatch B t2\n"
      "submit u1 {'targets': ['C']}\n"
      "submit t3 {'follow': {'dependencies': ['t1', 't2'], 'all': false}}\n"
      "reply C t1 ok\n" "> dispatch C u1\n" "> relay t1 C\n"
      "reply B t2 ok\n" "> dispatch B t3\n" "> relay t2 B\n" },
    { "follow all, failures wanted: one that never ran is impossible to follow",
      "engine A\n"
      "submit t1 {'after': ['x']}\n" "> answer t1 InvalidDependency\n"
      "submit t2 {'follow': {'dependencies': ['t1'], 'failure': true}}\n"
      "> answer t2 ImpossibleDependency\n" "~ without having run\n"
      "submit t3 {'after': {'dependencies': ['t1'], 'failure': true}}\n"
      "> dispatch A t3\n" },
    { "follow: an engine that is gone is impossible to follow",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n" "reply B t1 ok\n" "> relay t1 B\n"
      "submit t2 {'follow': ['t1']}\n" "> dispatch B t2\n"
      "submit t3 {'follow': ['t1']}\n"
      "lost B 0 gone\n" "> answer t3 ImpossibleDependency\n"
      "> answer t2 EngineError B\n"
      "submit t4 {'follow': ['t1']}\n" "> answer t4 ImpossibleDependency\n" },
    { "follow: a late reply of a lost engine, nobody can follow it",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': ['t2'], 'follow': ['t1']}\n"
      "lost B 1000\n"
      "reply B t1 ok\n" "> relay t1 B\n" "> answer t3 ImpossibleDependency\n"
      "~ where that ran, is gone\n" },
    { "follow any: it waits for the others when the first one's engine goes",
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1\n" "> dispatch C t1\n" "submit t2\n" "> dispatch B t2\n"
      "submit u1 {'targets': ['C']}\n"
      "submit t3 {'follow': {'dependencies': ['t1', 't2'], 'all': false}}\n"
      "reply C t1 ok\n" "> dispatch C u1\n" "> relay t1 C\n"
      "lost C 0\n" "> answer u1 EngineError C\n"
      "stat n_waiting_deps 1\n"
      "reply B t2 ok\n" "> dispatch B t3\n" "> relay t2 B\n" },
    { "follow and targets must agree",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n" "reply B t1 ok\n" "> relay t1 B\n"
      "submit t2 {'follow': ['t1'], 'targets': ['A']}\n"
      "> answer t2 ImpossibleDependency\n" "~ and it must follow others\n"
      "submit t3 {'follow': ['t1'], 'targets': ['A', 'B']}\n"
      "> dispatch B t3\n" },
    { "a released task has the place of its submission",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n" "submit t2\n" "> dispatch A t2\n"
      "submit t3 {'after': ['t1']}\n" "submit t4\n" "submit t5\n"
      "reply B t1 ok\n" "> dispatch B t3\n" "> relay t1 B\n"
      "reply A t2 ok\n" "> dispatch A t4\n" "> relay t2 A\n" },
    { "after and follow on the same task, named twice",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2 {'after': ['t1', 't1'], 'follow': ['t1', 't1']}\n"
      "reply B t1 ok\n" "> dispatch B t2\n" "> relay t1 B\n" },
};

/* ---- unmet, retries, deaths -------------------------------------------- */

static const struct play failing[] = {
    { "unmet: another engine, then it waits for a new one; retries stay",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "reply B t1 unmet\n" "> dispatch A t1\n"
      "reply A t1 unmet\n"
      "stat n_waiting_room 1\n" "stat n_idle 2\n" "stat unmet 2\n"
      "submit t2\n" "> dispatch B t2\n"
      "engine C\n" "> dispatch C t1\n"
      "reply C t1 ok\n" "> relay t1 C\n" },
    { "unmet on all of its targets is impossible",
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1 {'targets': ['A', 'B']}\n" "> dispatch B t1\n"
      "reply B t1 unmet\n" "> dispatch A t1\n"
      "reply A t1 unmet:UnmetDependency\n"
      "> answer t1 ImpossibleDependency\n"
      "~ had it last: UnmetDependency: by A hand\n" },
    { "unmet and a timeout: TaskTimeout",
      "engine A\n"
      "submit t1 {'timeout': 0.5}\n" "> dispatch A t1\n"
      "pass 3000\n"
      "reply A t1 unmet\n"
      "pass 499\n"
      "pass 1\n" "> answer t1 TaskTimeout\n"
      "~ waited 0.500 s for an engine\n" },
    { "retries: each on another engine, the last error is relayed",
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1 {'retries': 2}\n" "> dispatch C t1\n"
      "reply C t1 error\n" "> dispatch B t1\n"
      "reply B t1 error\n" "> dispatch A t1\n"
      "reply A t1 error\n" "> relay t1 A\n"
      "stat retried 2\n" "stat failed 1\n" },
    { "as many retries as engines: it waits",
      "engine A\n"
      "submit t1 {'retries': 1, 'timeout': 0.1}\n" "> dispatch A t1\n"
      "reply A t1 error\n"
      "pass 100\n" "> answer t1 TaskTimeout\n" },
    { "a retried task goes before those submitted later",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 1}\n" "> dispatch B t1\n"
      "submit t2\n" "> dispatch A t2\n" "submit t3\n" "submit t4\n"
      "reply B t1 error\n" "> dispatch B t3\n"
      "reply A t2 ok\n" "> dispatch A t1\n" "> relay t2 A\n" },
    { "an aborted task is not retried",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 2}\n" "> dispatch B t1\n"
      "reply B t1 aborted\n" "> relay t1 B\n" "stat failed 1\n" },
    { "retry_on: only these errors",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 9, 'retry_on': ['OSError', 'ValueError']}\n"
      "> dispatch B t1\n"
      "reply B t1 error:ValueError\n" "> dispatch A t1\n"
      "reply A t1 error:KeyError\n" "> relay t1 A\n"
      "submit t2 {'retries': 9, 'retry_on': 'engine-loss'}\n"
      "> dispatch B t2\n"
      "reply B t2 error\n" "> relay t2 B\n"
      "submit t3 {'retries': 9, 'retry_on': ['engine-loss']}\n"
      "> dispatch A t3\n"
      "lost A 0\n" "> dispatch B t3\n"
      "reply B t3 error\n" "> relay t3 B\n"
      "submit t4 {'retries': 9, 'retry_on': ['KeyError']}\n"
      "> dispatch B t4\n"
      "lost B 0\n" "> answer t4 EngineError B\n" },
    { "retry_delay: not before",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 1, 'retry_delay': 2}\n" "> dispatch B t1\n"
      "reply B t1 error\n" "stat n_delayed 1\n"
      "pass 1999\n" "pass 1\n" "> dispatch A t1\n"
      "reply A t1 error\n" "> relay t1 A\n" },
    { "retry_delay counts for the timeout",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 1, 'retry_delay': 2, 'timeout': 1}\n"
      "> dispatch B t1\n"
      "reply B t1 error\n"
      "pass 1000\n" "> answer t1 TaskTimeout\n" "~ for its retry delay\n" },
    { "retry_same_engine: if the engine can take the message twice",
      "engine A 2\n" "engine B\n"
      "submit t1 {'retries': 2, 'retry_same_engine': true}\n"
      "> dispatch B t1\n"
      "reply B t1 error\n" "> dispatch A t1\n"
      "reply A t1 error\n" "> dispatch A t1\n"
      "reply A t1 unmet\n" "stat n_waiting_room 1\n" },
    { "an engine dies: EngineError when the grace time is over",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "submit t2 {'after': ['t1']}\n"
      "lost B 5000 killed by signal 9\n"
      "submit t3\n" "> dispatch A t3\n"
      "pass 4999\n"
      "pass 1\n" "> answer t1 EngineError B\n"
      "> answer t2 ImpossibleDependency\n"
      "reply B t1 ok !\n" "stat dropped_replies 1\n" },
    { "EngineError names engine, task and reason",
      "engine A\n" "submit t1\n" "> dispatch A t1\n"
      "lost A 0 killed by signal 9\n" "> answer t1 EngineError A\n"
      "~ Engine b'A' died while running task 't1': killed by signal 9\n" },
    { "a reply within the grace time counts",
      "engine A\n" "submit t1\n" "> dispatch A t1\n"
      "lost A 5000\n"
      "pass 100\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "pass 9000\n" "lost A 5 !\n" },
    { "retries apply to dead engines, up to max_deaths",
      "config max_deaths=2\n"
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1 {'retries': 5}\n" "> dispatch C t1\n"
      "lost C 0\n" "> dispatch B t1\n"
      "lost B 0\n" "> answer t1 EngineError B\n"
      "~ not retried: 2 engines died running it, no more than 2 may "
      "(max_deaths): 2, 1\n" },
    { "what a dead engine had not begun was never sent",
      "config hwm=4\n"
      "engine A\n"
      "submit t1 {'retries': 1}\n" "> dispatch A t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "submit t4\n" "> dispatch A t4\n"
      "cancel t4 !\n"
      "engine B\n"
      "reply A t2 ok\n" "> relay t2 A\n"
      // t1 is not noted, but the engine has answered t2: it was begun.
      "begun A t2\n"
      "lost A 100\n"
      "pass 100\n" "> dispatch B t1\n" "> dispatch B t3\n" "> abort t4\n"
      "stat given_back 2\n" "stat retried 1\n"
      "reply B t3 ok\n" "> relay t3 B\n" },
    { "what a dead engine had begun is lost with it",
      "config hwm=2\n"
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n" "> dispatch A t2\n"
      "begun B t1\n" "begun A t1 t2\n"
      "lost A 0\n" "> answer t2 EngineError A\n" "> answer t1 EngineError A\n" },
    { "what had not begun and may only go to dead engines fails as they did",
      "engine A\n" "engine B\n"
      "submit t1 {'targets': ['A']}\n" "> dispatch A t1\n"
      "begun A\n"
      "lost A 0\n" "> answer t1 EngineError A\n" },
    { "a task may set its own max_deaths, or none",
      "config max_deaths=1\n"
      "engine A\n" "engine B\n" "engine C\n"
      "submit t1 {'retries': 5, 'max_deaths': 2}\n" "> dispatch C t1\n"
      "lost C 0\n" "> dispatch B t1\n"
      "lost B 0\n" "> answer t1 EngineError B\n" "~ (max_deaths)\n"
      "engine D\n" "engine E\n"
      "submit t2 {'retries': 1, 'max_deaths': 0}\n" "> dispatch E t2\n"
      "lost E 0\n" "> dispatch D t2\n"
      "lost D 0\n" "> answer t2 EngineError D\n"
      "submit t3 {'max_deaths': 'many'}\n" "> answer t3 TypeError\n"
      "~ max_deaths must be an integer\n" },
    { "hwm 0: all tasks of a dead engine are answered, one is to blame",
      "config hwm=0 max_deaths=1\n"
      "engine A\n"
      "submit t1 {'retries': 1}\n" "> dispatch A t1\n"
      "submit t2 {'retries': 1}\n" "> dispatch A t2\n"
      "submit t3\n" "> dispatch A t3\n"
      "engine B\n"
      "lost A 0\n" "> dispatch B t2\n" "> answer t3 EngineError A\n"
      "> answer t1 EngineError A\n" },
    { "a name that comes back is a new engine, and the old one's time is over",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'retries': 1}\n"
      "lost A 5000\n"
      "engine A\n" "> dispatch A t2\n" "> answer t1 EngineError A\n"
      "reply A t1 ok !\n"
      "lost A 5000\n"
      "engine A\n" "stat n_waiting_room 1\n"
      "lost A 0\n" "engine A 2\n" "> dispatch A t2\n"
      "engine A !\n" },
    { "a reply without a status is an error, and the task is over",
      "engine A\n" "submit t1\n" "> dispatch A t1\n"
      "reply A t1 none\n" "> answer t1 ProtocolError\n"
      "reply A t1 ok !\n" },
    { "replies nobody waits for are dropped",
      "engine A\n" "engine B\n"
      "submit t1\n" "> dispatch B t1\n"
      "reply A t1 ok !\n"
      "reply X t1 ok !\n"
      "reply B t9 ok !\n"
      "reply B t1 ok\n" "> relay t1 B\n"
      "reply B t1 ok !\n"
      "stat dropped_replies 4\n" },
};

/* ---- waiting, cancelling, refusing ------------------------------------- */

static const struct play waiting[] = {
    { "timeout: waiting for an engine",
      "submit t1 {'timeout': 0.25}\n" "submit t2 {'timeout': 0}\n"
      "submit t3 {'timeout': null}\n"
      "pass 249\n" "pass 1\n" "> answer t1 TaskTimeout\n"
      "pass 100000\n" "stat n_waiting_room 2\n" "stat timeouts 1\n" },
    { "timeout: waiting for others; but not while it runs",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2 {'after': ['t1'], 'timeout': 1}\n"
      "pass 1000\n" "> answer t2 TaskTimeout\n"
      "~ for the tasks it depends on\n"
      "submit t3 {'after': ['t1'], 'timeout': 1}\n"
      "reply A t1 ok\n" "> dispatch A t3\n" "> relay t1 A\n"
      "pass 5000\n"
      "reply A t3 ok\n" "> relay t3 A\n" },
    { "nowhere to run: off by default, then a time",
      "config nowhere=1000\n"
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "pass 600\n"
      "reply A t1 unmet\n"
      "submit t2\n" "> dispatch A t2\n" "submit t3\n"
      "pass 999\n" "pass 1\n" "> answer t1 TaskTimeout\n"
      "~ could run nowhere for 1.000 s: 1 engines are registered, and it was "
      "tried on 1\n"
      "pass 5000\n"
      "reply A t2 ok\n" "> dispatch A t3\n" "> relay t2 A\n"
      "submit t4\n"
      "lost A 0\n" "> answer t3 EngineError A\n"
      "pass 900\n" "engine B\n" "> dispatch B t4\n" },
    { "nowhere to run counts from when the last engine went",
      "config nowhere=1000\n"
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "submit t2\n"
      "pass 5300\n"
      "lost A 0\n" "> answer t1 EngineError A\n"
      "pass 999\n" "pass 1\n" "> answer t2 TaskTimeout\n" },
    { "cancel: waiting ones are aborted, their dependents impossible",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n" "submit t3 {'after': ['t2']}\n"
      "submit t4 {'after': ['t1']}\n"
      "cancel t2 t4 t9\n" "> abort t2\n" "> abort t4\n"
      "> answer t3 ImpossibleDependency\n"
      "stat aborted 2\n"
      "cancel t1 !\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "cancel t1 !\n" },
    { "cancel: a running one is not retried",
      "engine A\n" "engine B\n"
      "submit t1 {'retries': 3}\n" "> dispatch B t1\n"
      "cancel t1 !\n"
      "reply B t1 error\n" "> relay t1 B\n"
      "submit t2\n" "> dispatch A t2\n"
      "cancel t2 !\n"
      "reply A t2 unmet\n" "> abort t2\n" },
    { "an id cannot be used twice",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit@d t1\n" "> answer t1 ValueError\n" "~ is not finished\n"
      "reply A t1 ok\n" "> relay t1 A\n"
      "submit t1\n" "> answer t1 ValueError\n" "~ has finished\n" },
    { "max_tasks",
      "config max_tasks=2\n"
      "submit t1\n" "submit t2\n"
      "submit t3\n" "> answer t3 QueueFull\n" "~ holds 2 unfinished tasks\n"
      "cancel t1\n" "> abort t1\n"
      "submit t4\n" "stat submitted 4\n" },
    { "metadata of the wrong type is answered",
      "engine A\n"
      "submit t1 {'retries': 'many'}\n" "> answer t1 TypeError\n"
      "~ retries must be an integer\n"
      "submit t2 {'timeout': -1}\n" "> answer t2 ValueError\n"
      "submit t3 {'timeout': [1]}\n" "> answer t3 TypeError\n"
      "submit t4 {'targets': 'A'}\n" "> answer t4 TypeError\n"
      "submit t5 {'targets': [1]}\n" "> answer t5 TypeError\n"
      "submit t6 {'priority': 1.5}\n" "> answer t6 TypeError\n"
      "submit t7 {'retry_on': [1]}\n" "> answer t7 TypeError\n"
      "submit t8 {'retry_same_engine': 1}\n" "> answer t8 TypeError\n"
      "submit t9 {'retry_delay': -1}\n" "> answer t9 ValueError\n"
      "submit t10 {'retry_delay': 'x'}\n" "> answer t10 TypeError\n"
      "submit t11 [1,2]\n" "> answer t11 TypeError\n"
      "submit t12 {'retries': -4, 'timeout': 1e300}\n" "> dispatch A t12\n"
      "reply A t12 error\n" "> relay t12 A\n" },
};

/* ---- a port that refuses ----------------------------------------------- */

static const struct play refusing[] = {
    { "dispatch refused: another engine is tried",
      "engine A\n" "engine B\n"
      "refuse dispatch 1\n"
      "submit t1\n" "> dispatch A t1\n"
      "submit t2\n"
      "pass 19\n" "pass 1\n" "> dispatch B t2\n" },
    { "dispatch refused everywhere: later, not in a loop",
      "engine A\n"
      "refuse dispatch 3\n"
      "submit t1\n"
      "pass 20\n" "pass 20\n"
      "pass 20\n" "> dispatch A t1\n" },
    { "an answer refused is sent later, once",
      "refuse answer 2\n"
      "submit t1 {'after': ['x']}\n"
      "stat n_answering 1\n"
      "submit t2\n"
      "pass 20\n" "> answer t1 InvalidDependency\n"
      "~ dependency x is unknown\n"
      "pass 1000\n" },
    { "a relay refused is sent later; the engine goes on",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n" "submit t2 {'after': ['t1']}\n"
      "refuse relay 1\n"
      "reply A t1 ok\n" "> dispatch A t2\n"
      "pass 20\n" "> relay t1 A\n"
      "reply A t2 ok\n" "> relay t2 A\n" },
    { "an EngineError refused outlives its engine",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "refuse answer 1\n"
      "lost A 0\n"
      "pass 20\n" "> answer t1 EngineError A\n" },
    { "a refusal that cannot be answered is left to the caller",
      "engine A\n"
      "submit t1\n" "> dispatch A t1\n"
      "refuse answer 1\n"
      "submit t1 !\n"
      "submit t1\n" "> answer t1 ValueError\n" },
};
// clang-format on

static void
run_all(const struct play *play, size_t n)
{
    for (size_t i = 0; i < n; i++)
        run_play(&play[i]);
}

#define RUN(plays) run_all(plays, sizeof(plays) / sizeof((plays)[0]))

static void
test_placing(void **state)
{
    (void)state;
    RUN(placing);
}

static void
test_depending(void **state)
{
    (void)state;
    RUN(depending);
}

static void
test_failing(void **state)
{
    (void)state;
    RUN(failing);
}

static void
test_waiting(void **state)
{
    (void)state;
    RUN(waiting);
}

static void
test_refusing(void **state)
{
    (void)state;
    RUN(refusing);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_placing),  cmocka_unit_test(test_depending),
        cmocka_unit_test(test_failing),  cmocka_unit_test(test_waiting),
        cmocka_unit_test(test_refusing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
