/* options.h - every setting of ipcontroller: one table, four sources
 *
 * A row of the table is one setting: its short name, the Class.trait names it
 * has had through the versions, its flags, environment variable, type, range,
 * default and help.  Parsing, validation, --help, --show-config, the staged
 * config file and the man page all read the same rows.  A source may override
 * only what a weaker one set: default < environment < file < command line.
 */
#ifndef CONTROLLER_OPTIONS_H
#define CONTROLLER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/buf.h"
#include "base/span.h"
#include "roundhouse/error.h"

enum option_source { FROM_DEFAULT, FROM_ENV, FROM_FILE, FROM_COMMAND };

enum option_kind {
    OPTION_TEXT,
    OPTION_INT,
    OPTION_REAL,
    OPTION_BOOL,
    OPTION_LEVEL,  // log level: number or name
    OPTION_CHOICE, // one of the words in 'choices'
    OPTION_PORTS,  // "10101-10105,10108" or "[10101, 10102]"
    OPTION_DICT,   // JSON object, kept as text
    OPTION_LIST,   // JSON array, kept as text
    OPTION_REFUSED // known upstream, not here; 'help' says why
};

struct port_list {
    int *v;
    size_t n;
};

#define OPTION_ROWS_MAX 96

/* Texts are never NULL after settings_init. */
struct settings {
    char *profile, *profile_dir, *ipython_dir, *config_file, *cluster_id;
    char *work_dir;
    bool auto_create, log_to_file, clean_logs, stage_config;
    bool show_config, show_config_json;
    int64_t log_level;

    char *url, *ip, *engine_ip, *client_ip, *monitor_ip;
    char *transport, *engine_transport, *client_transport, *monitor_transport;
    char *location, *ssh, *engine_ssh;
    struct port_list ports, engine_ports, client_ports;
    struct port_list hb, mux, task, control, iopub;
    int64_t regport, notifier_port, mon_port;

    bool reuse, restore, use_threads;
    char *engine_file, *client_file, *db_class;
    int64_t registration_timeout_s, broadcast_depth;
    bool enable_curve, shared_memory;
    char *curve_public, *curve_secret;

    char *scheme, *scheme_library;
    int64_t hwm, prefetch, max_tasks, max_deaths, window;
    double nowhere_s;
    int64_t hb_period_ms, hb_max_misses;
    bool hb_debug;

    int64_t dictdb_size_limit, dictdb_record_limit;
    double dictdb_cull_fraction;
    char *sqlite_filename, *sqlite_location, *sqlite_table;
    char *mongo_args, *mongo_kwargs, *mongo_database;

    char *key, *keyfile, *session, *username;
    char *packer, *unpacker, *signature_scheme;
    int64_t buffer_threshold, copy_threshold, item_threshold;
    bool check_pid, session_debug;

    uint8_t source[OPTION_ROWS_MAX]; // enum option_source, by row
};

struct option_row {
    const char *name;   // "--name", or NULL
    const char *traits; // "Class.trait Class.trait ...", the first is current
    const char *flags;  // "flag=value flag=value ..." or NULL
    const char *env;    // or NULL
    enum option_kind kind;
    size_t at; // offset in struct settings
    int64_t min, max;
    const char *initial; // default, as text
    const char *choices; // for OPTION_CHOICE: words
    const char *help;
};

extern const struct option_row option_rows[];
extern const size_t option_n_rows;

/* What the command line asked for besides settings. */
enum option_action { ACTION_RUN, ACTION_HELP, ACTION_HELP_ALL, ACTION_VERSION };

int settings_init(struct settings *self, rh_error *err); // all defaults
void settings_fini(struct settings *self);

/* RH_EINVAL names the variable or option, its value and what would be right
 * (for an unknown option: the nearest known one); RH_ENOMEM.
 */
int settings_from_env(struct settings *self, rh_error *err);
int settings_from_args(struct settings *self, int argc, char *const *argv,
                       enum option_action *action, rh_error *err);

/* One "Class.trait" from a config file.  RH_ENOENT if no row has that trait
 * (the text suggests the nearest), RH_EINVAL for a bad value.
 */
int settings_from_file(struct settings *self, const char *trait,
                       const char *value, rh_error *err);

/* When all sources are read: what one setting means for others. */
int settings_finish(struct settings *self, rh_error *err);

/* Who set the member at 'offset' (offsetof(struct settings, ...)). */
enum option_source settings_source(const struct settings *self, size_t offset);

/* The current value of a row as --name=value takes it. */
void option_value(const struct settings *self, const struct option_row *row,
                  struct buf *out);
/* Length of the first Class.trait of a row. */
int option_trait_len(const struct option_row *row);

/* options_help.c: texts made from the rows. */
void option_print_help(FILE *out, bool all);
void option_print_config(FILE *out, const struct settings *self, bool json);
void option_print_config_file(FILE *out); // a commented ipcontroller_config.py

#endif /* CONTROLLER_OPTIONS_H */
