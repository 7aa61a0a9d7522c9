//! The grok patterns that there are, under their usual names.
//!
//! What the names mean is what users of grok know; the expressions are written for an engine that has no look-around and whose time
//! grows with every letter of a class, so that digits and letters of formats are those of ASCII.

/// Names and expressions, which may use others.
pub(super) const PATTERNS: &[(&str, &str)] = &[
    // Texts.
    ("WORD", r"\b\w+\b"),
    ("NOTSPACE", r"\S+"),
    ("SPACE", r"\s*"),
    ("DATA", r".*?"),
    ("GREEDYDATA", r".*"),
    ("QUOTEDSTRING", r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`"#),
    ("QS", r"%{QUOTEDSTRING}"),
    ("USERNAME", r"[A-Za-z0-9._-]+"),
    ("USER", r"%{USERNAME}"),
    ("EMAILLOCALPART", r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"),
    ("EMAILADDRESS", r"%{EMAILLOCALPART}@%{HOSTNAME}"),
    ("UUID", r"[A-Fa-f0-9]{8}-(?:[A-Fa-f0-9]{4}-){3}[A-Fa-f0-9]{12}"),
    ("URN", r"urn:[0-9A-Za-z][0-9A-Za-z-]+:(?:%[0-9A-Fa-f]{2}|[0-9A-Za-z()+,.:=@;$_!*'/?#-])+"),
    // Numbers.
    ("INT", r"[+-]?[0-9]+"),
    ("POSINT", r"\b[1-9][0-9]*\b"),
    ("NONNEGINT", r"\b[0-9]+\b"),
    ("BASE10NUM", r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"),
    ("NUMBER", r"%{BASE10NUM}"),
    ("BASE16NUM", r"[+-]?(?:0x)?[0-9A-Fa-f]+"),
    ("BASE16FLOAT", r"[+-]?(?:0x)?(?:[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]*)?|\.[0-9A-Fa-f]+)"),
    // Networks.
    ("CISCOMAC", r"(?:[A-Fa-f0-9]{4}\.){2}[A-Fa-f0-9]{4}"),
    ("WINDOWSMAC", r"(?:[A-Fa-f0-9]{2}-){5}[A-Fa-f0-9]{2}"),
    ("COMMONMAC", r"(?:[A-Fa-f0-9]{2}:){5}[A-Fa-f0-9]{2}"),
    ("MAC", r"%{CISCOMAC}|%{WINDOWSMAC}|%{COMMONMAC}"),
    ("IPV4", r"(?:%{OCTET}\.){3}%{OCTET}"),
    ("OCTET", r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"),
    (
        "IPV6",
        concat!(
            r"(?:(?:%{HEXTET}:){6}%{LAST32}",
            r"|::(?:%{HEXTET}:){5}%{LAST32}",
            r"|(?:%{HEXTET})?::(?:%{HEXTET}:){4}%{LAST32}",
            r"|(?:(?:%{HEXTET}:){0,1}%{HEXTET})?::(?:%{HEXTET}:){3}%{LAST32}",
            r"|(?:(?:%{HEXTET}:){0,2}%{HEXTET})?::(?:%{HEXTET}:){2}%{LAST32}",
            r"|(?:(?:%{HEXTET}:){0,3}%{HEXTET})?::%{HEXTET}:%{LAST32}",
            r"|(?:(?:%{HEXTET}:){0,4}%{HEXTET})?::%{LAST32}",
            r"|(?:(?:%{HEXTET}:){0,5}%{HEXTET})?::%{HEXTET}",
            r"|(?:(?:%{HEXTET}:){0,6}%{HEXTET})?::)(?:%[0-9A-Za-z]+)?",
        ),
    ),
    ("HEXTET", r"[0-9A-Fa-f]{1,4}"),
    ("LAST32", r"(?:%{IPV4}|%{HEXTET}:%{HEXTET})"),
    ("IP", r"%{IPV6}|%{IPV4}"),
    ("HOSTNAME", r"\b[0-9A-Za-z][0-9A-Za-z_-]*(?:\.[0-9A-Za-z][0-9A-Za-z_-]*)*\.?"),
    ("HOST", r"%{HOSTNAME}"),
    ("IPORHOST", r"%{IP}|%{HOSTNAME}"),
    ("HOSTPORT", r"%{IPORHOST}:%{POSINT}"),
    // Paths and addresses.
    ("UNIXPATH", r"(?:/[^\s/]*)+"),
    ("WINPATH", r"(?:[A-Za-z]+:|\\)(?:\\[^\\?*]*)+"),
    ("PATH", r"%{UNIXPATH}|%{WINPATH}"),
    ("TTY", r"/dev/(?:pts|tty(?:[pq])?)(?:\w+)?/?[0-9]*"),
    ("URIPROTO", r"[A-Za-z][A-Za-z0-9+.-]*"),
    ("URIHOST", r"%{IPORHOST}(?::%{POSINT})?"),
    ("URIPATH", r"(?:/[A-Za-z0-9$.+!*'(){},~:;=@#%&_/-]*)+"),
    ("URIQUERY", r"[A-Za-z0-9$.+!*'|(){},~@#%&/=:;_?\[\]<>-]*"),
    ("URIPARAM", r"\?%{URIQUERY}"),
    ("URIPATHPARAM", r"%{URIPATH}(?:%{URIPARAM})?"),
    ("URI", r"%{URIPROTO}://(?:%{USER}(?::[^@\s]*)?@)?%{URIHOST}(?:%{URIPATHPARAM})?"),
    // Times.
    (
        "MONTH",
        concat!(
            r"\b(?:[Jj]an(?:uary)?|[Ff]eb(?:ruary)?|[Mm]ar(?:ch)?|[Aa]pr(?:il)?|[Mm]ay|[Jj]une?|[Jj]uly?|",
            r"[Aa]ug(?:ust)?|[Ss]ep(?:t(?:ember)?)?|[Oo]ct(?:ober)?|[Nn]ov(?:ember)?|[Dd]ec(?:ember)?)\b",
        ),
    ),
    ("MONTHNUM", r"(?:1[0-2]|0?[1-9])"),
    ("MONTHNUM2", r"(?:1[0-2]|0[1-9])"),
    ("MONTHDAY", r"(?:3[01]|[12][0-9]|0?[1-9])"),
    ("DAY", r"\b(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)\b"),
    ("YEAR", r"(?:[0-9]{4}|[0-9]{2})"),
    ("HOUR", r"(?:2[0-3]|[01]?[0-9])"),
    ("MINUTE", r"[0-5][0-9]"),
    ("SECOND", r"(?:60|[0-5]?[0-9])(?:[.,:][0-9]+)?"),
    ("TIME", r"%{HOUR}:%{MINUTE}(?::%{SECOND})?"),
    ("DATE_US", r"%{MONTHNUM}[/-]%{MONTHDAY}[/-]%{YEAR}"),
    ("DATE_EU", r"%{MONTHDAY}[./-]%{MONTHNUM}[./-]%{YEAR}"),
    ("DATE", r"%{DATE_US}|%{DATE_EU}"),
    ("DATESTAMP", r"%{DATE}[- ]%{TIME}"),
    ("TZ", r"\b(?:[A-Z]{3,4})\b"),
    ("ISO8601_TIMEZONE", r"(?:Z|[+-]%{HOUR}(?::?%{MINUTE})?)"),
    ("ISO8601_SECOND", r"(?:60|[0-5][0-9])(?:[.,][0-9]+)?"),
    ("ISO8601_HOUR", r"(?:2[0-3]|[01][0-9])"),
    (
        "TIMESTAMP_ISO8601",
        r"[0-9]{4}-%{MONTHNUM}-%{MONTHDAY}[T ]%{ISO8601_HOUR}:?%{MINUTE}(?::?%{ISO8601_SECOND})?(?:%{ISO8601_TIMEZONE})?",
    ),
    ("DATESTAMP_RFC822", r"%{DAY} %{MONTH} %{MONTHDAY} %{YEAR} %{TIME} %{TZ}"),
    ("DATESTAMP_RFC2822", r"%{DAY}, %{MONTHDAY} %{MONTH} %{YEAR} %{TIME} %{ISO8601_TIMEZONE}"),
    ("DATESTAMP_OTHER", r"%{DAY} %{MONTH} +%{MONTHDAY} %{TIME} %{TZ} %{YEAR}"),
    ("DATESTAMP_EVENTLOG", r"%{YEAR}%{MONTHNUM2}%{MONTHDAY}%{ISO8601_HOUR}%{MINUTE}[0-5][0-9]"),
    ("SYSLOGTIMESTAMP", r"%{MONTH} +%{MONTHDAY} %{TIME}"),
    ("HTTPDATE", r"%{MONTHDAY}/%{MONTH}/%{YEAR}:%{TIME} %{INT}"),
    // Logs.
    (
        "LOGLEVEL",
        concat!(
            r"\b(?:[Aa]lert|ALERT|[Tt]race|TRACE|[Dd]ebug|DEBUG|[Nn]otice|NOTICE|[Ii]nfo(?:rmation)?|INFO(?:RMATION)?|",
            r"[Ww]arn(?:ing)?|WARN(?:ING)?|[Ee]rr(?:or)?|ERR(?:OR)?|[Cc]rit(?:ical)?|CRIT(?:ICAL)?|[Ff]atal|FATAL|",
            r"[Ss]evere|SEVERE|[Ee]merg(?:ency)?|EMERG(?:ENCY)?|[Pp]anic|PANIC)\b",
        ),
    ),
    ("PROG", r"[!-Z\\^-~]+"),
    ("SYSLOGPROG", r"%{PROG:program}(?:\[%{POSINT:pid}\])?"),
    ("SYSLOGHOST", r"%{IPORHOST}"),
    ("SYSLOGFACILITY", r"<%{NONNEGINT:facility}\.%{NONNEGINT:priority}>"),
    ("SYSLOGBASE", r"%{SYSLOGTIMESTAMP:timestamp} (?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} %{SYSLOGPROG}:"),
    (
        "SYSLOGBASE2",
        concat!(
            r"(?:%{SYSLOGTIMESTAMP:timestamp}|%{TIMESTAMP_ISO8601:timestamp}) ",
            r"(?:%{SYSLOGFACILITY} )?%{SYSLOGHOST:logsource} +(?:%{SYSLOGPROG}:|)",
        ),
    ),
    ("SYSLOGLINE", r"%{SYSLOGBASE2} %{GREEDYDATA:message}"),
    ("SYSLOG5424PRI", r"<%{NONNEGINT:priority}>"),
    (
        "SYSLOG5424LINE",
        concat!(
            r"%{SYSLOG5424PRI}%{NONNEGINT:version} (?:-|%{TIMESTAMP_ISO8601:timestamp}) (?:-|%{NOTSPACE:logsource}) ",
            r"(?:-|%{NOTSPACE:program}) (?:-|%{NOTSPACE:pid}) (?:-|%{NOTSPACE:msgid}) ",
            r#"(?:-|(?<structured>(?:\[(?:[^\]\\"]|"(?:[^"\\]|\\.)*")*\])+))(?: %{GREEDYDATA:message})?"#,
        ),
    ),
    // What stands between two spaces is a host or an address, and what stands in brackets is a time: it costs less to find them than to
    // check them as well, which the types of columns do.
    ("HTTPDUSER", r"[^ ]+"),
    (
        "COMMONAPACHELOG",
        concat!(
            r"(?<clientip>[^ ]+) (?<ident>[^ ]+) (?<auth>[^ ]+) \[(?<timestamp>[^\]]+)\] ",
            r#""(?:(?<verb>[A-Za-z]+) (?<request>[^ "]+)(?: HTTP/(?<httpversion>[0-9.]+))?|(?<rawrequest>(?:[^"\\]|\\.)*))" "#,
            r"(?<response>[0-9]{3}) (?:(?<bytes>[0-9]+)|-)",
        ),
    ),
    ("COMBINEDAPACHELOG", r#"%{COMMONAPACHELOG} "(?<referrer>(?:[^"\\]|\\.)*)" "(?<agent>(?:[^"\\]|\\.)*)""#),
    ("HTTPD_COMMONLOG", r"%{COMMONAPACHELOG}"),
    ("HTTPD_COMBINEDLOG", r"%{COMBINEDAPACHELOG}"),
    (
        "HTTPD24_ERRORLOG",
        concat!(
            r"\[(?<timestamp>%{DAY} %{MONTH} %{MONTHDAY} %{TIME} %{YEAR})\] \[(?:%{WORD:module})?:%{LOGLEVEL:loglevel}\] ",
            r"\[pid %{POSINT:pid}(?::tid %{NUMBER:tid})?\](?: \[client %{NOTSPACE:client}\])? %{GREEDYDATA:message}",
        ),
    ),
];
