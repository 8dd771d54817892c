// SPDX-License-Identifier: Apache-2.0
// The same tests, compiled as C++ and linked with the shared library.
#include "capi.c"
