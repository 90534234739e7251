// What numbers mean, in words and colors.
import { MappingType, SpecialValueMatch, type ValueMapping } from "@grafana/grafana-foundation-sdk/dashboard";

type Words = Record<string, [text: string, color: string]>;

/** Maps values to words. */
export function words(map: Words): ValueMapping[] {
  const options = Object.fromEntries(
    Object.entries(map).map(([value, [text, color]], index) => [value, { text, color, index }]),
  );
  return [{ type: MappingType.ValueToText, options }];
}

/** Shows a missing value as text: Grafana shows an empty cell otherwise. A label that a row lacks is empty, a column that it lacks is null. */
export const nothing = (text: string, color = "text"): ValueMapping[] => [SpecialValueMatch.Null, SpecialValueMatch.Empty].map((match) => ({
  type: MappingType.SpecialValue,
  options: { match, result: { text, color } },
}));

export const HAPPENING = words({
  9: ["YES", "red"],
  7: ["ERRORS, NAT unseen", "orange"],
  6: ["ERRORS, no sender seen", "orange"],
  3: ["ARMED: NAT, no errors", "orange"],
  1: ["no errors, NAT unseen", "purple"],
  0: ["no", "green"],
});

export const EXPOSURE = words({
  3: ["active", "red"],
  2: ["exposed", "orange"],
  1: ["unknown", "purple"],
  0: ["clear", "green"],
});

export const NODE = words({
  3: ["SPOILS PACKETS", "red"],
  2: ["exposed", "orange"],
  1: ["unknown", "purple"],
  0: ["clear", "green"],
});

export const MARK = words({
  4: ["kept", "red"],
  3: ["bypassed", "red"],
  2: ["no mark rule", "blue"],
  1: ["cleared", "green"],
  0: ["not understood", "purple"],
});

/** active + 2 where requested differs + 4 where fixed, in the words of ethtool -k; 8: on, and a condition of the failure that holds. */
export const FEATURE = words({
  0: ["off", "text"],
  1: ["on", "blue"],
  2: ["off [requested on]", "orange"],
  3: ["on [requested off]", "orange"],
  4: ["off [fixed]", "text"],
  5: ["on [fixed]", "text"],
  6: ["off [fixed]", "text"],
  7: ["on [fixed]", "text"],
  8: ["on: spoils checksums", "red"],
});

/** States of a path, the worst first. */
export const PATH = words({
  6: ["nat", "red"],
  5: ["offload", "red"],
  4: ["mtu", "orange"],
  3: ["ok", "green"],
  2: ["unknown", "purple"],
  1: ["unreachable", "text"],
});

export const VARIANT = words({
  zero_checksum: ["A zero_checksum", "red"],
  offloaded_checksum: ["B offloaded_checksum", "red"],
  unfinished_checksum: ["C unfinished_checksum", "orange"],
  unknown: ["unknown", "purple"],
});

export const SUCCESS = words({
  2: ["ok", "green"],
  1: ["not permitted", "orange"],
  0: ["failed", "red"],
});

export const UP = words({ 1: ["up", "text"], 0: ["down", "red"] });

export const YESNO = words({ 1: ["yes", "blue"], 0: ["no", "text"] });
