import java.sql.*;
import java.util.Properties;

/** What pgjdbc does that others do not: server-prepared statements, fetch size, savepoints, metadata. */
public class Jdbc {
    static String route(Connection c) throws SQLException {
        ResultSet r = c.createStatement().executeQuery("show htapkit.last_route");
        r.next();
        return " " + r.getString(1);
    }

    public static void main(String[] arguments) throws Exception {
        Properties user = new Properties();
        user.put("user", "postgres");
        try (Connection c = DriverManager.getConnection(arguments[0], user)) {
            ResultSet r = c.createStatement().executeQuery("/*hot*/ select val from ev where id < 8 order by id desc limit 1");
            r.next();
            System.out.println("select " + r.getDouble(1) + route(c));
            PreparedStatement s = c.prepareStatement("/*hot*/ select sum(id) from ev where id <= ?");
            long sum = 0;
            for (int i = 1; i <= 8; i++) {
                s.setInt(1, i);
                r = s.executeQuery();
                r.next();
                sum += r.getLong(1);
            }
            System.out.println("prepared " + sum + route(c));
            c.setAutoCommit(false);
            Statement f = c.createStatement();
            f.setFetchSize(500);
            r = f.executeQuery("/*hot*/ select id from ev order by id");
            int n = 0;
            while (r.next()) n++;
            System.out.println("cursor " + n + route(c));
            c.commit();
            Savepoint p = c.setSavepoint();
            try {
                c.createStatement().executeQuery("select nosuch");
            } catch (SQLException e) {
                c.rollback(p);
            }
            r = c.createStatement().executeQuery("select 1");
            r.next();
            System.out.println("savepoint " + r.getInt(1));
            c.commit();
            c.setAutoCommit(true);
            r = c.getMetaData().getColumns(null, null, "ev", "%");
            n = 0;
            while (r.next()) n++;
            System.out.println("columns " + n);
            r = c.getMetaData().getPrimaryKeys(null, "public", "ev");
            r.next();
            System.out.println("primary " + r.getString("COLUMN_NAME"));
        }
    }
}
