/* uuid.h - random names from the kernel's generator */
#ifndef BASE_UUID_H
#define BASE_UUID_H

#include <stddef.h>

#define UUID_SIZE 34 // 8 hex, '-', 24 hex, NUL: the form sessions use

int uuid_new(char out[UUID_SIZE]);     // RH_EIO if no entropy
int random_bytes(void *out, size_t n); // RH_EIO

#endif /* BASE_UUID_H */
