#include "tests/inject_openssl.h"

#include <openssl/crypto.h>
#include <stdlib.h>

static bool spared;

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);

static void *take(size_t size, const char *file, int line)
{
    (void) file;
    (void) line;
    return spared ? __real_malloc(size) : malloc(size);
}

static void *take_again(void *memory, size_t size, const char *file, int line)
{
    (void) file;
    (void) line;
    return spared ? __real_realloc(memory, size) : realloc(memory, size);
}

static void give_back(void *memory, const char *file, int line)
{
    (void) file;
    (void) line;
    free(memory);
}

bool inject_openssl(void)
{
    return CRYPTO_set_mem_functions(take, take_again, give_back) == 1;
}

void inject_spare_openssl(bool is_spared)
{
    spared = is_spared;
}
