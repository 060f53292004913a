/* inject_openssl: has OpenSSL, which is no archive, take its memory by way of inject's wrappers. */
#ifndef ECHOD_TESTS_INJECT_OPENSSL_H
#define ECHOD_TESTS_INJECT_OPENSSL_H

#include <stdbool.h>

/* From now on; false: OpenSSL has memory already. */
bool inject_openssl(void);

/* Is OpenSSL spared, as when it is a test's own client that takes memory, in the same process? */
void inject_spare_openssl(bool is_spared);

#endif
