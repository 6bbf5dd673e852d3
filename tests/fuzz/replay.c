/* replay.c - run a fuzz target over files and folders, without libFuzzer */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static int n_done;

static int
replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    struct stat st;
    size_t size = 0;

    if (!file || fstat(fileno(file), &st) < 0) {
        perror(path);
        return 1;
    }
    data = malloc((size_t)st.st_size + 1);
    if (data)
        size = fread(data, 1, (size_t)st.st_size, file);
    fclose(file);
    if (!data || size != (size_t)st.st_size) {
        fprintf(stderr, "%s: cannot read\n", path);
        free(data);
        return 1;
    }
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    n_done++;
    return 0;
}

static int
replay(const char *path)
{
    DIR *dir = opendir(path);
    int failed = 0;

    if (!dir)
        return replay_file(path);
    for (struct dirent *e; (e = readdir(dir));) {
        char name[4096];

        if (e->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%s", path, e->d_name);
        failed |= replay(name);
    }
    closedir(dir);
    return failed;
}

int
main(int argc, char **argv)
{
    int failed = 0;

    for (int i = 1; i < argc; i++)
        failed |= replay(argv[i]);
    printf("%d inputs\n", n_done);
    return failed || n_done == 0; // an empty corpus tests nothing
}
