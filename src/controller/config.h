/* config.h - ipcontroller_config.py, evaluated by Python, applied here */
#ifndef CONTROLLER_CONFIG_H
#define CONTROLLER_CONFIG_H

#include "controller/options.h"

/* Evaluate the file and take over what it sets.  A missing file is RH_ENOENT.
 * What it configures for other programs is ignored; a wrong name or a setting
 * that is not available here is logged; a bad value or a file that cannot be
 * evaluated is an error.
 */
int config_load(struct settings *s, const char *path, rh_error *err);

/* The same for the JSON the helper prints: {"Class": {"trait": value}}. */
int config_apply(struct settings *s, struct span json, const char *path,
                 rh_error *err);

/* Write a commented ipcontroller_config.py, unless there is one. */
int config_stage(const char *path, rh_error *err);

#endif /* CONTROLLER_CONFIG_H */
