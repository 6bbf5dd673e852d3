/* profile.h - the profile folder, its files, and who owns it now */
#ifndef CONTROLLER_PROFILE_H
#define CONTROLLER_PROFILE_H

#include <stdbool.h>

#include "controller/options.h"

struct profile {
    char *dir;         // absolute
    char *security;    // dir/security, mode 0700
    char *log;         // dir/log
    char *pid;         // dir/pid, mode 0700
    char *config_path; // dir/ipcontroller_config.py
    char *client_path; // security/ipcontroller[-cluster]-client.json
    char *engine_path;
    char *engines_path; // log/engines<cluster>.json
    char *lock_path;    // pid/ipcontroller[-cluster].pid
    int lock_fd;
    bool created; // the folder is new
};

/* Find out where the profile is, from IPYTHONDIR and the options; touches
 * nothing.  Names of files are made by profile_name_files, because the
 * configuration file of the profile may change them.
 */
int profile_init(struct profile *self, const struct settings *s, rh_error *err);
int profile_name_files(struct profile *self, const struct settings *s,
                       rh_error *err);
void profile_fini(struct profile *self); // unlocks

/* Make the folders that are missing.  RH_ENOENT: the profile does not exist
 * and shall not be created; RH_EIO names the folder and the reason.
 */
int profile_create(struct profile *self, bool auto_create, rh_error *err);

/* Become the one controller of this profile and cluster id.  RH_EEXIST names
 * the process that is.  A lock whose owner has died is taken over.
 */
int profile_lock(struct profile *self, rh_error *err);

/* Remove "ipcontroller-*.log" in the log folder. */
void profile_clean_logs(const struct profile *self);

#endif /* CONTROLLER_PROFILE_H */
