/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

OPTION_SETS(OPTIONS_TABLE)
